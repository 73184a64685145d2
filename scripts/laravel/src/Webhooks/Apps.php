<?php

declare(strict_types=1);

namespace Reecho\Laravel\Webhooks;

use Illuminate\Contracts\Config\Repository;

/**
 * The apps whose webhooks are taken. An application that keeps its apps elsewhere binds a
 * class of its own in the container.
 */
class Apps
{
    public function __construct(private Repository $config)
    {
    }

    /**
     * The secret of the app with a key, or null if there is none.
     */
    public function secret(string $key): ?string
    {
        foreach (['reecho.webhook_apps', 'broadcasting.connections', 'reverb.apps.apps'] as $list) {
            foreach ((array) $this->config->get($list) as $app) {
                $secret = (string) ($app['secret'] ?? '');
                if ($key !== '' && $secret !== '' && (string) ($app['key'] ?? '') === $key) {
                    return $secret;
                }
            }
        }

        return null;
    }
}
