"""What clusters are given: the Helm chart, the image, examples."""
