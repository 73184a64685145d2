<?php

declare(strict_types=1);

namespace Reecho\Laravel\Events;

use Carbon\CarbonImmutable;

/**
 * What all events have. They hold plain values, so that listeners can be queued.
 */
abstract class ChannelEvent implements WebhookEvent
{
    /**
     * @param  string  $id  the same whenever reecho tells this event
     * @param  string  $appKey  of the app that the channel is in
     * @param  string  $channel  with its prefix, such as presence-room.7
     * @param  CarbonImmutable  $time  when the first event of the same request happened
     */
    public function __construct(
        public readonly string $id,
        public readonly string $appKey,
        public readonly string $channel,
        public readonly CarbonImmutable $time,
    ) {
    }
}
