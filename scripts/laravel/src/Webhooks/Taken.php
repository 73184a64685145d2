<?php

declare(strict_types=1);

namespace Reecho\Laravel\Webhooks;

use Illuminate\Contracts\Cache\Repository;

/**
 * Which webhooks were taken, in a cache that all web servers share. A webhook is claimed
 * before its listeners run, so that no other request runs them at the same time: reecho
 * tries again after ten seconds, whether they are done or not.
 */
final class Taken
{
    private const RUNNING = 'running';

    private const DONE = 'done';

    /**
     * @param  int  $remember  seconds that a webhook is known for
     * @param  int  $running  seconds after which a claim ends whose process died
     */
    public function __construct(private Repository $cache, private int $remember, private int $running)
    {
    }

    /**
     * Claims a webhook, and is false if somebody has it.
     */
    public function claim(string $id): bool
    {
        return $this->cache->add($this->key($id), self::RUNNING, $this->running);
    }

    /**
     * Whether the listeners of a webhook have run.
     */
    public function isDone(string $id): bool
    {
        return $this->cache->get($this->key($id)) === self::DONE;
    }

    public function done(string $id): void
    {
        $this->cache->put($this->key($id), self::DONE, $this->remember);
    }

    /**
     * Gives a claim back, so that the webhook is taken when it comes again.
     */
    public function release(string $id): void
    {
        $this->cache->forget($this->key($id));
    }

    private function key(string $id): string
    {
        return 'reecho:webhook:' . hash('sha256', $id);
    }
}
