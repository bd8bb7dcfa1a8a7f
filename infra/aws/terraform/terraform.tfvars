name   = "ravel"                       # <- name
region = "us-east-1"                   # <- region
bucket = "your-bucket"                 # <- bucket
image  = "ghcr.io/your-team/ravel:cpu" # <- image
