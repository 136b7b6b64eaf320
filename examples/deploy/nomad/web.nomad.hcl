job "web" {
  type = "service"

  update {
    max_parallel = 1
    health_check = "checks"
    auto_revert  = true
  }

  group "web" {
    count = 2

    network {
      port "http" {
        to = 80
      }
    }

    service {
      name     = "web"
      port     = "http"
      provider = "nomad"

      check {
        type     = "http"
        path     = "/healthz"
        interval = "10s"
        timeout  = "2s"
      }
    }

    task "web" {
      driver = "docker"

      config {
        # By digest: `bake show web:2.0.0 --json` says it.
        image = "registry.example/web@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        ports = ["http"]
      }
    }
  }
}
