<?php

// What Composer would have made: the framework of the system, the application, and the
// packages of vendor, each as its composer.json says.

error_reporting(E_ALL & ~E_DEPRECATED);
require '/usr/share/php/Illuminate/autoload.php';
require __DIR__ . '/../pusher/Pusher.php';

if (is_file('/usr/share/php/GuzzleHttp/autoload.php')) {
    require_once '/usr/share/php/GuzzleHttp/autoload.php';
}

$folders = ['App\\' => __DIR__ . '/../app/'];
$installed = json_decode(file_get_contents(__DIR__ . '/../vendor/composer/installed.json'), true, 32, JSON_THROW_ON_ERROR);
foreach ($installed['packages'] as $package) {
    foreach ($package['autoload']['psr-4'] as $namespace => $folder) {
        $folders[$namespace] = __DIR__ . "/../vendor/{$package['name']}/$folder";
    }
}
spl_autoload_register(function (string $class) use ($folders) {
    foreach ($folders as $namespace => $folder) {
        $file = $folder . str_replace('\\', '/', substr($class, strlen($namespace))) . '.php';
        if (str_starts_with($class, $namespace) && is_file($file)) {
            require $file;
        }
    }
});
