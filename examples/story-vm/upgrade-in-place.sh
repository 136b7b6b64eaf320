# What people do to a machine that lives: they log in and upgrade it, step by step, until a step fails. What it leaves is neither version 1
# nor version 2.
set -e
echo '{"name": "app", "version": "2.0.0"}' >/var/www/html/version.json
mkdir -p /etc/nginx
echo 'worker_processes 2;' >/etc/nginx/nginx.conf
apt-get install -y nginx-light
systemctl disable --now apache2
systemctl enable --now nginx
