<?php

declare(strict_types=1);

namespace Reecho\Laravel\Events;

/**
 * The first subscriber of a channel is there, counted over all nodes.
 */
final class ChannelOccupied extends ChannelEvent
{
}
