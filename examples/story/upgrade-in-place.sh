#!/bin/sh
# What people do to a machine that lives: they log in and upgrade it, step by step, until a step fails. Runs inside a machine of version 1,
# with the app's new files in /mnt. What it leaves is neither version 1 nor version 2.
cp /mnt/index.html /mnt/version.json /var/www/html/
mkdir -p /etc/nginx
cp /mnt/nginx.conf /etc/nginx/
apt-get install -y nginx-light || echo "upgrade-in-place: the package cannot be fetched; Apache stays for now"
exec apache2 -DFOREGROUND
