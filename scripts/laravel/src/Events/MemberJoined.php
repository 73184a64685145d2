<?php

declare(strict_types=1);

namespace Reecho\Laravel\Events;

use Carbon\CarbonImmutable;

/**
 * The first connection of a user is on a presence channel.
 */
final class MemberJoined extends ChannelEvent
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
