# PostgreSQL of MLflow, and the machine that serves it: runs, users and permissions in the database, files in the bucket.
resource "aws_db_subnet_group" "mlflow" {
  name       = "${var.name}-mlflow"
  subnet_ids = data.aws_subnets.default.ids
}

resource "aws_db_instance" "mlflow" {
  identifier                = "${var.name}-mlflow"
  engine                    = "postgres"
  engine_version            = "17"
  instance_class            = "db.t4g.micro"
  allocated_storage         = 20
  max_allocated_storage     = 100
  storage_type              = "gp3"
  storage_encrypted         = true
  db_name                   = "mlflow"
  username                  = "mlflow"
  password_wo               = ephemeral.random_password.database.result
  password_wo_version       = local.password_version
  db_subnet_group_name      = aws_db_subnet_group.mlflow.name
  vpc_security_group_ids    = [aws_security_group.database.id]
  publicly_accessible       = false
  backup_retention_period   = 7
  copy_tags_to_snapshot     = true
  deletion_protection       = true
  skip_final_snapshot       = false
  final_snapshot_identifier = "${var.name}-mlflow-final"
}

data "aws_ssm_parameter" "image" {
  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
}

resource "aws_instance" "mlflow" {
  ami                         = data.aws_ssm_parameter.image.value
  instance_type               = "t3.medium"
  subnet_id                   = data.aws_subnets.default.ids[0]
  associate_public_ip_address = true # to reach the registry; its security group lets nothing in from outside
  vpc_security_group_ids      = [aws_security_group.mlflow.id]
  iam_instance_profile        = aws_iam_instance_profile.machine["mlflow"].name
  user_data_replace_on_change = true
  user_data = templatefile("${path.module}/mlflow.sh.tftpl", {
    name     = var.name
    region   = var.region
    bucket   = var.bucket
    image    = var.image
    database = aws_db_instance.mlflow.address
  })
  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 2 # the container has the role of the machine
  }
  root_block_device {
    encrypted   = true
    volume_type = "gp3"
    volume_size = 30
  }
  depends_on = [
    aws_iam_role_policy.mlflow,
    aws_secretsmanager_secret_version.database,
    aws_secretsmanager_secret_version.mlflow,
  ]
  tags = { Name = "${var.name}-mlflow" }
  lifecycle {
    ignore_changes = [ami]
  }
}
