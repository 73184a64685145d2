<?php

declare(strict_types=1);

namespace Reecho\Laravel\Events;

use Carbon\CarbonImmutable;

/**
 * A user has had no connection on a presence channel for three seconds (webhook_grace).
 */
final class MemberLeft extends ChannelEvent
{
    public function __construct(
        string $id,
        string $appKey,
        string $channel,
        CarbonImmutable $time,
        public readonly string $userId,
    ) {
        parent::__construct($id, $appKey, $channel, $time);
    }
}
