<?php

// A Laravel application, as far as broadcasting goes: the framework's own
// broadcast(), BroadcastManager, PusherBroadcaster and channel authorisation,
// behind "php -S". Requests: POST /broadcast, POST /broadcasting/auth, and GET
// /pulse, which asks what Pulse's card for Reverb asks. With LARAVEL_ENV_FILE the
// connection is that of such a file, read as Laravel reads it.

namespace App;

use Illuminate\Broadcasting\BroadcastManager;
use Illuminate\Broadcasting\InteractsWithSockets;
use Illuminate\Broadcasting\PresenceChannel;
use Illuminate\Broadcasting\PrivateChannel;
use Illuminate\Broadcasting\Channel;
use Illuminate\Bus\Dispatcher as Bus;
use Illuminate\Config\Repository;
use Illuminate\Container\Container;
use Illuminate\Contracts\Broadcasting\Factory;
use Illuminate\Contracts\Broadcasting\ShouldBroadcastNow;
use Illuminate\Events\Dispatcher;
use Illuminate\Http\Request;
use Illuminate\Support\Env;
use Symfony\Component\HttpKernel\Exception\AccessDeniedHttpException;

// The framework's own warnings under a newer PHP are none of ours.
error_reporting(E_ALL & ~E_DEPRECATED);
require '/usr/share/php/Illuminate/autoload.php';
require_once __DIR__.'/Pusher.php';

class ScoreChanged implements ShouldBroadcastNow
{
    use InteractsWithSockets;

    public function __construct(public string $text, private array $on)
    {
    }

    public function broadcastOn(): array
    {
        return $this->on;
    }
}

final class User
{
    public function __construct(public string $id, public string $name)
    {
    }

    public function getAuthIdentifier(): string
    {
        return $this->id;
    }
}

$app = new class extends Container {
    // BroadcastManager asks for these of Laravel's Application.
    public function routesAreCached(): bool
    {
        return true;
    }

    public function runningInConsole(): bool
    {
        return false;
    }
};
Container::setInstance($app);
\Illuminate\Support\Facades\Facade::setFacadeApplication($app);
$request = Request::capture();
$app->instance('request', $request);
$connections = [];
if ($file = getenv('LARAVEL_ENV_FILE')) {
    require_once '/usr/share/php/Dotenv/autoload.php';
    \Dotenv\Dotenv::create(Env::getRepository(), dirname($file), basename($file))->load();
    // This framework's release has no driver of the name; later ones make the same
    // broadcaster of it.
    $connections['reverb'] = [
        'driver' => 'pusher', 'key' => Env::get('REVERB_APP_KEY'), 'secret' => Env::get('REVERB_APP_SECRET'), 'app_id' => Env::get('REVERB_APP_ID'),
        'options' => ['host' => Env::get('REVERB_HOST'), 'port' => Env::get('REVERB_PORT', 443), 'scheme' => Env::get('REVERB_SCHEME', 'https')],
    ];
}
$app->instance('config', new Repository(['broadcasting' => [
    'default' => Env::get('BROADCAST_CONNECTION', 'pusher'),
    'connections' => $connections + ['pusher' => [
        'driver' => 'pusher', 'key' => getenv('PUSHER_APP_KEY'), 'secret' => getenv('PUSHER_APP_SECRET'), 'app_id' => getenv('PUSHER_APP_ID'),
        'options' => ['host' => getenv('PUSHER_HOST'), 'port' => getenv('PUSHER_PORT'), 'scheme' => 'http'],
    ]],
]]));
$app->singleton('events', fn ($app) => new Dispatcher($app));
$app->alias('events', \Illuminate\Contracts\Events\Dispatcher::class);
$app->singleton(\Illuminate\Contracts\Bus\Dispatcher::class, fn ($app) => new Bus($app));
$app->singleton(Factory::class, fn ($app) => new BroadcastManager($app));
if (! function_exists('broadcast')) {
    require_once '/usr/share/php/Illuminate/Foundation/helpers.php';
}

$manager = $app->make(Factory::class);
$manager->channel('chat.{room}', fn (User $user, string $room) => $room !== 'secret');
$manager->channel('lobby', fn (User $user) => ['name' => $user->name]);
$request->setUserResolver(fn () => new User($request->header('X-User', '7'), $request->header('X-Name', 'Ada')));

header('Content-Type: application/json');
try {
    switch ($request->path()) {
        case 'broadcast':
            $channels = array_map(fn ($name) => match (true) {
                str_starts_with($name, 'private-') => new PrivateChannel(substr($name, 8)),
                str_starts_with($name, 'presence-') => new PresenceChannel(substr($name, 9)),
                default => new Channel($name),
            }, $request->json('channels'));
            $pending = \broadcast(new ScoreChanged($request->json('text'), $channels));
            if ($request->json('toOthers')) {
                $pending->toOthers();
            }
            unset($pending); // broadcasts
            echo '{}';
            break;
        case 'broadcasting/auth':
            echo json_encode($manager->auth($request));
            break;
        case 'pulse':
            // The recorder makes a client of the app's configuration and asks it so.
            $connection = $app['config']['broadcasting.connections.reverb'];
            $pusher = new \Pusher\Pusher($connection['key'], $connection['secret'], $connection['app_id'], $connection['options']);
            echo json_encode(['reverb_connections' => $pusher->get('/connections')->connections]);
            break;
        case 'channels':
            echo json_encode($manager->getPusher()->get('/channels', ['filter_by_prefix' => 'presence-', 'info' => ['user_count', 'subscription_count']]));
            break;
        default:
            http_response_code(404);
    }
} catch (AccessDeniedHttpException) {
    http_response_code(403);
    echo '{"message":"forbidden"}';
} catch (\Throwable $e) {
    http_response_code(500);
    echo json_encode(['class' => get_class($e), 'message' => $e->getMessage()]);
}
