<?php

declare(strict_types=1);

namespace Reecho\Laravel\Webhooks;

use Carbon\CarbonImmutable;
use Illuminate\Http\Request;
use JsonException;
use Reecho\Laravel\Events\CacheMissed;
use Reecho\Laravel\Events\ChannelOccupied;
use Reecho\Laravel\Events\ChannelVacated;
use Reecho\Laravel\Events\ClientEvent;
use Reecho\Laravel\Events\MemberJoined;
use Reecho\Laravel\Events\MemberLeft;
use Reecho\Laravel\Events\SubscriptionCount;
use Reecho\Laravel\Events\WebhookEvent;

/**
 * The events of one request, which was signed with the secret of an app.
 */
final class Webhook
{
    /**
     * @param  array<string, WebhookEvent>  $events  by their ids, in their order
     * @param  list<string>  $unknown  names of events that a newer reecho tells
     */
    private function __construct(public readonly array $events, public readonly array $unknown)
    {
    }

    /**
     * @throws InvalidWebhook
     */
    public static function read(Request $request, Apps $apps): self
    {
        $body = $request->getContent();
        $key = (string) $request->header('X-Pusher-Key');
        $secret = $apps->secret($key);
        if ($secret === null) {
            throw new InvalidWebhook('X-Pusher-Key is not the key of an app of this application.', InvalidWebhook::UNSIGNED);
        }
        // Over the bytes as they came: no middleware has changed those.
        $signature = hash_hmac('sha256', $body, $secret);
        if (! hash_equals($signature, (string) $request->header('X-Pusher-Signature'))) {
            throw new InvalidWebhook('X-Pusher-Signature is not that of the body with the app\'s secret.', InvalidWebhook::UNSIGNED);
        }

        return self::parse($key, $body, (string) $request->header('X-Reecho-Event-Ids'));
    }

    /**
     * @throws InvalidWebhook
     */
    private static function parse(string $key, string $body, string $ids): self
    {
        try {
            $told = json_decode($body, true, 16, JSON_THROW_ON_ERROR);
        } catch (JsonException $e) {
            throw self::malformed('The body is not JSON: ' . $e->getMessage() . '.');
        }
        if (! is_array($told) || ! is_int($told['time_ms'] ?? null) || ! is_array($told['events'] ?? null)) {
            throw self::malformed('The body has no time_ms and events.');
        }
        $ids = explode(',', $ids);
        $list = array_values($told['events']);
        if (count(array_unique($ids)) !== count($list) || count($ids) !== count($list) || in_array('', $ids, true)) {
            throw self::malformed('X-Reecho-Event-Ids must have an id of its own for each of the ' . count($list) . ' events.');
        }

        $events = $unknown = [];
        $time = CarbonImmutable::createFromTimestampMs($told['time_ms'], date_default_timezone_get());
        foreach ($list as $i => $fields) {
            if (! is_array($fields)) {
                throw self::malformed("Event $i is not an object.");
            }
            $event = self::event(new Fields($fields, $i), $ids[$i], $key, $time);
            if ($event === null) {
                $unknown[] = (string) $fields['name'];
            } else {
                $events[$ids[$i]] = $event;
            }
        }

        return new self($events, $unknown);
    }

    /**
     * @throws InvalidWebhook
     */
    private static function event(Fields $fields, string $id, string $key, CarbonImmutable $time): ?WebhookEvent
    {
        $name = $fields->text('name');
        $about = [$id, $key, $fields->text('channel'), $time];

        return match ($name) {
            'channel_occupied' => new ChannelOccupied(...$about),
            'channel_vacated' => new ChannelVacated(...$about),
            'member_added' => new MemberJoined(...[...$about, $fields->text('user_id')]),
            'member_removed' => new MemberLeft(...[...$about, $fields->text('user_id')]),
            'client_event' => new ClientEvent(...[
                ...$about, $fields->text('event'), $fields->text('data'), $fields->text('socket_id'), $fields->textOrNull('user_id'),
            ]),
            'cache_miss' => new CacheMissed(...$about),
            'subscription_count' => new SubscriptionCount(...[...$about, $fields->number('subscription_count')]),
            default => null,
        };
    }

    private static function malformed(string $message): InvalidWebhook
    {
        return new InvalidWebhook($message, InvalidWebhook::MALFORMED);
    }
}
