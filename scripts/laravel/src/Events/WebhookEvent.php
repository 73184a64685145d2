<?php

declare(strict_types=1);

namespace Reecho\Laravel\Events;

/**
 * What reecho told by a webhook. Whoever listens to this interface hears of everything.
 */
interface WebhookEvent
{
}
