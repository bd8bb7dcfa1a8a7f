output "mlflow" {
  description = "Address of MLflow for machines of the cluster."
  value       = "http://mlflow.${var.name}.internal:5000"
}

output "mlflow_password" {
  description = "Secret with the password of MLflow's user admin."
  value       = aws_secretsmanager_secret.password["mlflow"].name
}

output "bucket" {
  description = "Bucket of the results."
  value       = aws_s3_bucket.results.bucket
}
