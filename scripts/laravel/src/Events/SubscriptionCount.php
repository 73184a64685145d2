<?php

declare(strict_types=1);

namespace Reecho\Laravel\Events;

use Carbon\CarbonImmutable;

/**
 * How many subscriptions a channel has now. It needs subscription_counts of the app.
 */
final class SubscriptionCount extends ChannelEvent
{
    public function __construct(
        string $id,
        string $appKey,
        string $channel,
        CarbonImmutable $time,
        public readonly int $count,
    ) {
        parent::__construct($id, $appKey, $channel, $time);
    }
}
