# Orders behind NGINX.
class orders (Integer $port) {
  group { 'orders':
    ensure => present,
    gid    => 990,
  }

  user { 'orders':
    ensure => present,
    uid    => 990,
    gid    => 'orders',
    home   => '/srv/orders',
    shell  => '/usr/sbin/nologin',
    system => true,
  }

  file {
    default:
      owner => 'orders',
      group => 'orders';
    '/srv/orders':
      ensure => directory,
      mode   => '0755';
    '/srv/orders/index.html':
      source => 'puppet:///modules/orders/index.html',
      mode   => '0644';
  }

  file {
    default:
      notify => Service['nginx'];
    '/etc/nginx/sites-available/orders':
      content => epp('orders/orders.conf.epp', { port => $port }),
      mode    => '0644';
    '/etc/nginx/sites-enabled/orders':
      ensure => link,
      target => '/etc/nginx/sites-available/orders';
    '/etc/nginx/sites-enabled/default':
      ensure => absent;
  }

  service { 'nginx':
    ensure => running,
    enable => true,
  }
}
