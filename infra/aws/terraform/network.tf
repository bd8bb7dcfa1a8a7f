# The default network of the account. Its machines reach the registry and S3 by their public addresses; nothing but the
# ssh port of the cluster, which Ray's launcher opens, can be reached from outside.
data "aws_vpc" "default" {
  default = true
}

data "aws_subnets" "default" {
  filter {
    name   = "vpc-id"
    values = [data.aws_vpc.default.id]
  }
}

# Ray's launcher adds two rules: ssh from outside, and everything between machines of this group.
resource "aws_security_group" "cluster" {
  name        = "${var.name}-cluster"
  description = "Ray machines of ${var.name}"
  vpc_id      = data.aws_vpc.default.id
  lifecycle {
    ignore_changes = [ingress, egress]
  }
}

resource "aws_vpc_security_group_egress_rule" "cluster" {
  security_group_id = aws_security_group.cluster.id
  description       = "S3, the registry, MLflow"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}

resource "aws_security_group" "mlflow" {
  name        = "${var.name}-mlflow"
  description = "MLflow of ${var.name}"
  vpc_id      = data.aws_vpc.default.id
}

resource "aws_vpc_security_group_ingress_rule" "mlflow" {
  security_group_id            = aws_security_group.mlflow.id
  description                  = "Ray machines"
  referenced_security_group_id = aws_security_group.cluster.id
  from_port                    = 5000
  to_port                      = 5000
  ip_protocol                  = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "mlflow" {
  security_group_id = aws_security_group.mlflow.id
  description       = "S3, the registry, the database"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}

resource "aws_security_group" "database" {
  name        = "${var.name}-database"
  description = "PostgreSQL of ${var.name}"
  vpc_id      = data.aws_vpc.default.id
}

resource "aws_vpc_security_group_ingress_rule" "database" {
  security_group_id            = aws_security_group.database.id
  description                  = "MLflow"
  referenced_security_group_id = aws_security_group.mlflow.id
  from_port                    = 5432
  to_port                      = 5432
  ip_protocol                  = "tcp"
}

resource "aws_route53_zone" "internal" {
  name = "${var.name}.internal"
  vpc {
    vpc_id = data.aws_vpc.default.id
  }
}

resource "aws_route53_record" "mlflow" {
  zone_id = aws_route53_zone.internal.zone_id
  name    = "mlflow.${var.name}.internal"
  type    = "A"
  ttl     = 60
  records = [aws_instance.mlflow.private_ip]
}
