<?php

declare(strict_types=1);

namespace Reecho\Laravel\Http;

use Illuminate\Auth\Access\AuthorizationException;
use Illuminate\Contracts\Broadcasting\Factory;
use Illuminate\Contracts\Config\Repository;
use Illuminate\Contracts\Debug\ExceptionHandler;
use Illuminate\Http\JsonResponse;
use Illuminate\Http\Request;
use Symfony\Component\HttpKernel\Exception\HttpExceptionInterface;
use Throwable;
use UnexpectedValueException;

/**
 * Authorises several channels of one connection, each as Laravel's own route does it.
 */
final class BatchAuthController
{
    public function __construct(
        private Factory $broadcasting,
        private Repository $config,
        private ExceptionHandler $exceptions,
    ) {
    }

    public function authenticate(Request $request): JsonResponse
    {
        if ($errors = $this->errors($request)) {
            return new JsonResponse(['message' => reset($errors)[0], 'errors' => $errors], 422);
        }
        // As Laravel's BroadcastController: what is kept for the next page is not for this request.
        if ($request->hasSession()) {
            $request->session()->reflash();
        }
        $channels = [];
        foreach ($request->input('channel_names') as $name) {
            $channels[$name] ??= $this->authorize($request, $name);
        }

        // A list would become of names that are numbers.
        return new JsonResponse(['channels' => (object) $channels]);
    }

    /**
     * @return array<string, list<string>>  by field, as Laravel's validation has them
     */
    private function errors(Request $request): array
    {
        $errors = [];
        $socketId = $request->input('socket_id');
        if (! is_string($socketId) || ! preg_match('/^\d+\.\d+$/D', $socketId)) {
            $errors['socket_id'][] = 'socket_id must be that of a connection, such as 1234.5678.';
        }
        $names = $request->input('channel_names');
        $most = (int) $this->config->get('reecho.batch_channels');
        if (! is_array($names) || $names === []) {
            $errors['channel_names'][] = 'channel_names must be a list of channels.';
        } elseif (count($names) > $most) {
            $errors['channel_names'][] = 'channel_names has ' . count($names) . " channels, the limit is $most (reecho.batch_channels).";
        } elseif (array_filter($names, fn ($name) => ! is_string($name) || $name === '')) {
            $errors['channel_names'][] = 'channel_names must be names of channels: text that is not empty.';
        }

        return $errors;
    }

    /**
     * @return array<string, mixed>  status, and what Laravel's own route answers
     */
    private function authorize(Request $request, string $channel): array
    {
        try {
            return ['status' => 200] + $this->answer($this->single($request, $channel));
        } catch (HttpExceptionInterface $e) {
            return ['status' => $e->getStatusCode()];
        } catch (AuthorizationException) {
            return ['status' => 403];
        } catch (Throwable $e) {
            $this->exceptions->report($e);

            return ['status' => 500];
        }
    }

    /**
     * The request as it would be for one channel.
     */
    private function single(Request $request, string $channel): Request
    {
        $input = $request->except(['channel_names', 'callback']);
        $single = $request->duplicate([], ['channel_name' => $channel] + $input);
        // Its input is a form's, also where that of the batch is JSON.
        $single->headers->set('Content-Type', 'application/x-www-form-urlencoded');

        return $single;
    }

    /**
     * @return array<string, mixed>
     */
    private function answer(Request $request): array
    {
        $answer = $this->broadcasting->connection()->auth($request);
        if ($answer instanceof JsonResponse) {
            $answer = $answer->getData(true);
        }
        if (! is_array($answer) || ! isset($answer['auth'])) {
            $name = $this->config->get('broadcasting.default');

            throw new UnexpectedValueException("The broadcasting connection $name signs no channels: choose reverb or pusher.");
        }

        return $answer;
    }
}
