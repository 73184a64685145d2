<?php

declare(strict_types=1);

namespace Reecho\Laravel\Http;

use Illuminate\Contracts\Debug\ExceptionHandler;
use Illuminate\Contracts\Events\Dispatcher;
use Illuminate\Http\JsonResponse;
use Illuminate\Http\Request;
use Psr\Log\LoggerInterface;
use Reecho\Laravel\Events\WebhookEvent;
use Reecho\Laravel\Webhooks\Apps;
use Reecho\Laravel\Webhooks\InvalidWebhook;
use Reecho\Laravel\Webhooks\Taken;
use Reecho\Laravel\Webhooks\Webhook;
use Throwable;

/**
 * Takes webhooks and makes events of them. Only the answer 200 tells reecho not to send
 * them again, so it comes after the listeners.
 */
final class WebhookController
{
    public function __construct(
        private Apps $apps,
        private Taken $taken,
        private Dispatcher $events,
        private ExceptionHandler $exceptions,
        private LoggerInterface $log,
    ) {
    }

    public function receive(Request $request): JsonResponse
    {
        try {
            $webhook = Webhook::read($request, $this->apps);
        } catch (InvalidWebhook $e) {
            return $this->answer($e->getCode(), $e->getMessage());
        }
        foreach ($webhook->unknown as $name) {
            $this->log->warning('reecho told an event that this package does not know', ['name' => $name]);
        }
        // A later event of a channel must not be heard of before one that is tried again.
        foreach ($webhook->events as $id => $event) {
            if ($refusal = $this->hear((string) $id, $event)) {
                return $refusal;
            }
        }

        return $this->answer(200, 'ok');
    }

    /**
     * Runs the listeners of an event, unless they have run. The answer is for reecho to
     * try again.
     */
    private function hear(string $id, WebhookEvent $event): ?JsonResponse
    {
        if (! $this->taken->claim($id)) {
            return $this->taken->isDone($id) ? null : $this->answer(503, 'The listeners of ' . $event::class . ' are running.');
        }
        // What PHP answers with if a listener ends the process; else the answer below counts.
        http_response_code(500);
        try {
            $this->events->dispatch($event);
        } catch (Throwable $e) {
            $this->taken->release($id);
            $this->exceptions->report($e);

            return $this->answer(500, 'A listener of ' . $event::class . ' failed.');
        }
        $this->taken->done($id);

        return null;
    }

    private function answer(int $status, string $message): JsonResponse
    {
        return new JsonResponse(['message' => $message], $status);
    }
}
