<?php

// Verifies webhooks with the official PHP library: a line of JSON for each, in and out.
// The argument is a folder with the library, or with the vendor folder of Composer.

$dir = $argv[1];
if (is_file("$dir/vendor/autoload.php")) {
    require "$dir/vendor/autoload.php";
} else {
    // What it makes HTTP calls with is not needed here, but for the type of an argument.
    eval('namespace GuzzleHttp; interface ClientInterface {} class Client implements ClientInterface {}');
    if (! interface_exists('Psr\Log\LoggerInterface')) {
        spl_autoload_register(function ($class) {
            $file = '/usr/share/php/'.str_replace('\\', '/', $class).'.php';
            if (is_file($file)) {
                require $file;
            }
        });
    }
    foreach (['PusherException', 'ApiErrorException', 'PusherCrypto', 'PusherInterface', 'Webhook', 'Pusher'] as $name) {
        require "$dir/src/$name.php";
    }
}

while (($line = fgets(STDIN)) !== false) {
    $hook = json_decode($line, true, 512, JSON_THROW_ON_ERROR);
    $hub = new Pusher\Pusher($hook['key'], $hook['secret'], '77');
    try {
        $hub->webhook($hook['headers'], $hook['body'].' ');
        fwrite(STDERR, "a changed body was taken\n");
        exit(1);
    } catch (Pusher\PusherException $e) {
        // as it should be
    }
    echo json_encode($hub->webhook($hook['headers'], $hook['body'])->get_events()), "\n";
}
