<?php

declare(strict_types=1);

namespace Reecho\Laravel\Console;

use Illuminate\Support\Str;

/**
 * What reecho:install writes to .env for a connection, reverb or pusher: names, and values
 * as they stand there.
 */
final class Variables
{
    private string $prefix;

    public function __construct(private string $connection)
    {
        $this->prefix = strtoupper($connection);
    }

    /**
     * A new app.
     *
     * @return array<string, string>
     */
    public function credentials(): array
    {
        return [
            "{$this->prefix}_APP_ID" => (string) random_int(100_000, 999_999),
            "{$this->prefix}_APP_KEY" => Str::lower(Str::random(20)),
            "{$this->prefix}_APP_SECRET" => Str::lower(Str::random(20)),
        ];
    }

    /**
     * Where the application reaches the server.
     *
     * @return array<string, string>
     */
    public function address(): array
    {
        return [
            "{$this->prefix}_HOST" => '"localhost"',
            "{$this->prefix}_PORT" => $this->connection === 'reverb' ? '8080' : '6001',
            "{$this->prefix}_SCHEME" => 'http',
        ];
    }

    /**
     * What Echo is given.
     *
     * @param  string  $bundler  VITE or MIX
     * @return array<string, string>
     */
    public function frontEnd(string $bundler): array
    {
        $variables = [];
        foreach (['APP_KEY', 'HOST', 'PORT', 'SCHEME'] as $name) {
            $variables["{$bundler}_{$this->prefix}_$name"] = "\"\${{$this->prefix}_$name}\"";
        }

        return $variables;
    }

    /**
     * A URL as the only endpoint, in JSON where reecho must be let onto a private address.
     *
     * @return array<string, string>
     */
    public static function webhooks(string $url): array
    {
        $list = [['url' => $url, 'allow_private' => true]];
        $private = "'" . json_encode($list, JSON_UNESCAPED_SLASHES | JSON_THROW_ON_ERROR) . "'";

        return ['REECHO_APP_WEBHOOKS' => self::isPublic((string) parse_url($url, PHP_URL_HOST)) ? $url : $private];
    }

    /**
     * Whether a host looks like one on the public Internet. Names without a dot are those
     * of containers, and .test is Valet's.
     */
    private static function isPublic(string $host): bool
    {
        $address = trim($host, '[]');
        if (filter_var($address, FILTER_VALIDATE_IP)) {
            return (bool) filter_var($address, FILTER_VALIDATE_IP, FILTER_FLAG_NO_PRIV_RANGE | FILTER_FLAG_NO_RES_RANGE);
        }

        return str_contains($host, '.') && ! Str::endsWith($host, ['.test', '.localhost', '.local', '.internal']);
    }
}
