<?php

declare(strict_types=1);

namespace Reecho\Laravel\Webhooks;

/**
 * The fields of one event of a webhook, with the types that they must have.
 */
final class Fields
{
    /**
     * @param  array<mixed>  $fields
     * @param  int  $position  of the event, for messages
     */
    public function __construct(private array $fields, private int $position)
    {
    }

    public function text(string $name): string
    {
        return $this->textOrNull($name) ?? throw $this->wrong($name, 'a text');
    }

    public function textOrNull(string $name): ?string
    {
        $value = $this->fields[$name] ?? null;

        return $value === null || is_string($value) ? $value : throw $this->wrong($name, 'a text');
    }

    public function number(string $name): int
    {
        $value = $this->fields[$name] ?? null;

        return is_int($value) ? $value : throw $this->wrong($name, 'a whole number');
    }

    private function wrong(string $name, string $type): InvalidWebhook
    {
        return new InvalidWebhook("Event {$this->position} must have $name, $type.", InvalidWebhook::MALFORMED);
    }
}
