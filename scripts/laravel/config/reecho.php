<?php

return [

    // What reecho:start runs. Without it vendor/bin, the application's folder and PATH
    // are looked through.
    'binary' => env('REECHO_BINARY'),

    // What the other one of --host and --port of reecho:start is when only one is given.
    'host' => env('REVERB_SERVER_HOST', '0.0.0.0'),
    'port' => env('REVERB_SERVER_PORT', 8080),

    // Where reecho posts its webhooks to; null for no route. The middleware must let
    // requests in that have neither a session nor a CSRF token.
    'webhook_path' => env('REECHO_WEBHOOK_PATH', 'reecho/webhooks'),
    'webhook_middleware' => [],

    // Apps whose webhooks are taken, beside those of broadcasting.connections and of
    // reverb.apps: lists of key and secret.
    'webhook_apps' => [],

    // The cache that remembers which webhooks were taken (null: the default one, which
    // all web servers must share), and for how many seconds. reecho keeps a webhook for
    // 65 minutes at most, unless webhook_queue_age or webhook_retry_time are changed.
    'webhook_cache' => env('REECHO_WEBHOOK_CACHE'),
    'webhook_seconds' => (int) env('REECHO_WEBHOOK_SECONDS', 7200),

    // For how many seconds the listeners of one webhook may run. If their process dies,
    // the webhook is taken again after as long.
    'webhook_listener_seconds' => (int) env('REECHO_WEBHOOK_LISTENER_SECONDS', 60),

    // How many channels one request to broadcasting/auth/batch may name.
    'batch_channels' => (int) env('REECHO_BATCH_CHANNELS', 100),

];
