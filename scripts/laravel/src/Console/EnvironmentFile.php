<?php

declare(strict_types=1);

namespace Reecho\Laravel\Console;

use Dotenv\Dotenv;
use Dotenv\Exception\InvalidFileException;

/**
 * The text of a .env file, to be completed: whatever is there stays as it is.
 */
final class EnvironmentFile
{
    /** @var array<string, string|null>  as Laravel reads them */
    private array $values;

    private string $eol;

    /** @var list<string>  new lines, which go to the end together */
    private array $added = [];

    /**
     * @throws InvalidFileException
     */
    public function __construct(private string $text)
    {
        $this->values = Dotenv::parse($text);
        $this->eol = str_contains($text, "\r\n") ? "\r\n" : "\n";
    }

    /**
     * The value of a variable, '' if there is none.
     */
    public function value(string $name): string
    {
        return $this->values[$name] ?? '';
    }

    public function has(string $name): bool
    {
        return array_key_exists($name, $this->values);
    }

    /**
     * Gives a variable a value, which is written as it stands, quotes and all.
     */
    public function set(string $name, string $value): void
    {
        if (! $this->has($name)) {
            $this->added[] = "$name=$value";

            return;
        }
        // All of its lines, since the last one counts.
        $line = '/^(\h*(?:export\h+)?)' . preg_quote($name, '/') . '\h*=[^\r\n]*/m';
        $this->text = preg_replace_callback($line, fn (array $match) => "$match[1]$name=$value", $this->text);
    }

    public function text(): string
    {
        if ($this->added === []) {
            return $this->text;
        }
        $before = rtrim($this->text, "\r\n");

        return $before . ($before === '' ? '' : $this->eol . $this->eol) . implode($this->eol, $this->added) . $this->eol;
    }
}
