<?php

declare(strict_types=1);

namespace Reecho\Laravel;

use Illuminate\Broadcasting\BroadcastController;
use Illuminate\Contracts\Cache\Factory as Cache;
use Illuminate\Contracts\Foundation\CachesRoutes;
use Illuminate\Routing\Route;
use Illuminate\Routing\Router;
use Illuminate\Support\ServiceProvider;
use Reecho\Laravel\Console\InstallCommand;
use Reecho\Laravel\Console\StartCommand;
use Reecho\Laravel\Http\BatchAuthController;
use Reecho\Laravel\Http\WebhookController;
use Reecho\Laravel\Webhooks\Taken;

final class ReechoServiceProvider extends ServiceProvider
{
    public function register(): void
    {
        $this->mergeConfigFrom(__DIR__ . '/../config/reecho.php', 'reecho');
        $this->app->bind(Taken::class, function ($app) {
            $config = $app['config']['reecho'];

            return new Taken(
                $app->make(Cache::class)->store($config['webhook_cache']),
                (int) $config['webhook_seconds'],
                (int) $config['webhook_listener_seconds'],
            );
        });
    }

    public function boot(): void
    {
        if ($this->app->runningInConsole()) {
            $this->commands([InstallCommand::class, StartCommand::class]);
            $this->publishes([__DIR__ . '/../config/reecho.php' => $this->app->configPath('reecho.php')], 'reecho-config');
        }
        // Behind all others, among which is the one that the batch goes with.
        $this->app->booted(function () {
            if (! $this->app instanceof CachesRoutes || ! $this->app->routesAreCached()) {
                $this->routes($this->app['router']);
            }
        });
    }

    private function routes(Router $router): void
    {
        // First the batches: the new routes are none of Laravel's.
        foreach ($router->getRoutes()->getRoutes() as $route) {
            if (ltrim($route->getActionName(), '\\') === BroadcastController::class . '@authenticate') {
                $this->batch($router, $route);
            }
        }
        $config = $this->app['config']['reecho'];
        if (($config['webhook_path'] ?? '') !== '') {
            $router->post($config['webhook_path'], [
                'uses' => WebhookController::class . '@receive', 'as' => 'reecho.webhooks', 'middleware' => $config['webhook_middleware'],
            ]);
        }
    }

    /**
     * Adds the batch behind a route of Broadcast::routes(), with its guards and the rest.
     */
    private function batch(Router $router, Route $beside): void
    {
        $kept = ['middleware', 'excluded_middleware', 'domain', 'where'];
        $action = array_intersect_key($beside->getAction(), array_flip($kept));
        $router->post($beside->uri() . '/batch', ['uses' => BatchAuthController::class . '@authenticate'] + $action)
            ->where($beside->wheres);
    }
}
