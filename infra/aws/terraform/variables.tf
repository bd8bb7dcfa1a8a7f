variable "name" {
  description = "Prefix of all names, and the cluster_name of ../cluster.yaml."
  type        = string
  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$", var.name))
    error_message = "The name must be at most 40 lower-case letters, digits and dashes."
  }
}

variable "region" {
  description = "Region of everything, as in ../cluster.yaml."
  type        = string
}

variable "bucket" {
  description = "Bucket to create, for sweeps and for the files of MLflow."
  type        = string
}

variable "image" {
  description = "Image of infra/Dockerfile, on a registry that needs no login from EC2."
  type        = string
}

variable "kept_versions_days" {
  description = "Days for which a deleted or replaced object can be restored."
  type        = number
  default     = 30
}
