<?php

declare(strict_types=1);

namespace Reecho\Laravel\Events;

/**
 * Somebody subscribed to a cache channel that has no event to give; told once in ten seconds
 * for each channel.
 */
final class CacheMissed extends ChannelEvent
{
}
