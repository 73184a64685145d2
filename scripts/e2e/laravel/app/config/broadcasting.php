<?php

$options = fn (string $prefix) => [
    'host' => env("{$prefix}_HOST"), 'port' => env("{$prefix}_PORT", 443), 'scheme' => env("{$prefix}_SCHEME", 'https'),
    'encryption_master_key_base64' => env('ENCRYPTION_MASTER_KEY'),
];
$connection = fn (string $driver, string $prefix) => [
    'driver' => $driver, 'key' => env("{$prefix}_APP_KEY"), 'secret' => env("{$prefix}_APP_SECRET"), 'app_id' => env("{$prefix}_APP_ID"),
    'options' => $options($prefix),
];

return [
    'default' => env('BROADCAST_CONNECTION', env('BROADCAST_DRIVER', 'null')),
    'connections' => [
        'reverb' => $connection('reverb', 'REVERB'),
        'pusher' => $connection('pusher', 'PUSHER'),
        'ably' => ['driver' => 'log'], // no matter what it is
        'log' => ['driver' => 'log'],
        'null' => ['driver' => 'null'],
    ],
];
