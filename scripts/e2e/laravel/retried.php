<?php

// Tries a broadcast of a queued job several times, with the class that the documentation
// shows, which comes by standard input.

require __DIR__.'/Pusher.php';
eval(preg_replace('/^use .*$/m', '', stream_get_contents(STDIN)));

[, $port, $appId, $key, $secret] = $argv;
$pusher = new RetriedPusher($key, $secret, $appId, ['host' => '127.0.0.1', 'port' => $port, 'scheme' => 'http']);
foreach (['job-1', 'job-1', 'job-1', 'job-2', null, null] as RetriedPusher::$job) {
    foreach ([['match.1', 'match.2'], ['match.3']] as $channels) {
        $pusher->trigger($channels, 'score', ['job' => RetriedPusher::$job]);
    }
}
