# Generated once, written to the database and to the Secrets Manager, and in no state and no plan. To change one, raise the
# version.
locals {
  password_version = 1
}

ephemeral "random_password" "database" {
  length  = 40
  special = false
}

ephemeral "random_password" "mlflow" {
  length  = 40
  special = false
}

resource "aws_secretsmanager_secret" "password" {
  for_each                = toset(["database", "mlflow"])
  name                    = "${var.name}-${each.key}"
  recovery_window_in_days = 7
}

resource "aws_secretsmanager_secret_version" "database" {
  secret_id                = aws_secretsmanager_secret.password["database"].id
  secret_string_wo         = ephemeral.random_password.database.result
  secret_string_wo_version = local.password_version
}

resource "aws_secretsmanager_secret_version" "mlflow" {
  secret_id                = aws_secretsmanager_secret.password["mlflow"].id
  secret_string_wo         = ephemeral.random_password.mlflow.result
  secret_string_wo_version = local.password_version
}
