<?php

declare(strict_types=1);

namespace Reecho\Laravel\Events;

/**
 * Nobody has been on a channel for three seconds (webhook_grace).
 */
final class ChannelVacated extends ChannelEvent
{
}
