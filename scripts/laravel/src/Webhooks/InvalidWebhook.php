<?php

declare(strict_types=1);

namespace Reecho\Laravel\Webhooks;

use RuntimeException;

/**
 * A request that is not a webhook of ours. The code is the status to answer with, and the
 * message says what is wrong.
 */
final class InvalidWebhook extends RuntimeException
{
    public const UNSIGNED = 401;

    public const MALFORMED = 400;
}
