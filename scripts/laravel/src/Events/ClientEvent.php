<?php

declare(strict_types=1);

namespace Reecho\Laravel\Events;

use Carbon\CarbonImmutable;

/**
 * A client sent an event to the others of a channel (a whisper).
 */
final class ClientEvent extends ChannelEvent
{
    /**
     * @param  string  $event  begins with client-
     * @param  string  $data  as the client sent it, most often JSON: json() decodes it
     * @param  string|null  $userId  on presence channels
     */
    public function __construct(
        string $id,
        string $appKey,
        string $channel,
        CarbonImmutable $time,
        public readonly string $event,
        public readonly string $data,
        public readonly string $socketId,
        public readonly ?string $userId,
    ) {
        parent::__construct($id, $appKey, $channel, $time);
    }

    /**
     * The data of JSON, objects as arrays; null if it is none.
     */
    public function json(): mixed
    {
        return json_decode($this->data, true);
    }
}
