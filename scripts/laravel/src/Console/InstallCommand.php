<?php

declare(strict_types=1);

namespace Reecho\Laravel\Console;

use Dotenv\Exception\InvalidFileException;
use Illuminate\Broadcasting\BroadcastController;
use Illuminate\Broadcasting\BroadcastManager;
use Illuminate\Console\Command;

/**
 * Completes .env with what Laravel, Echo and reecho need, as reverb:install does it. What
 * is there is kept, so it can be run again.
 */
final class InstallCommand extends Command
{
    protected $signature = 'reecho:install
        {--webhooks : Also have reecho post its webhooks to this application, at APP_URL}
        {--force : Write new credentials and the defaults over what is there}';

    protected $description = 'Write what reecho needs to .env';

    public function handle(): int
    {
        $path = $this->laravel->environmentFilePath();
        if (! is_file($path) || ($text = @file_get_contents($path)) === false) {
            return $this->refuse("$path cannot be read. Is there one? (cp .env.example .env; php artisan key:generate)");
        }
        try {
            $file = new EnvironmentFile($text);
        } catch (InvalidFileException $e) {
            return $this->refuse("$path cannot be read as Laravel reads it: " . $e->getMessage());
        }
        $variable = $this->connectionVariable($file);
        $connection = $this->connection($file->value($variable));
        if ($connection === null) {
            return $this->refuse("$variable is {$file->value($variable)}. reecho is for the connections reverb and pusher: change it, or let --force do it.");
        }
        if ($this->option('webhooks') && $this->webhookUrl() === null) {
            return $this->refuse('There is no route for webhooks: webhook_path of config/reecho.php (REECHO_WEBHOOK_PATH) is empty.');
        }

        $this->fill($file, $variable, $connection);
        if ($file->text() !== $text && @file_put_contents($path, $file->text(), LOCK_EX) === false) {
            return $this->refuse("$path cannot be written. Whose is it?");
        }
        $this->ignoreData($file);
        $this->sayWhatIsLeft($connection);

        return self::SUCCESS;
    }

    private function refuse(string $message): int
    {
        $this->error($message);

        return self::FAILURE;
    }

    /**
     * Laravel 11 has a new name for it; an application may have kept the old one.
     */
    private function connectionVariable(EnvironmentFile $file): string
    {
        $names = version_compare($this->laravel->version(), '11', '<')
            ? ['BROADCAST_DRIVER', 'BROADCAST_CONNECTION']
            : ['BROADCAST_CONNECTION', 'BROADCAST_DRIVER'];

        return ! $file->has($names[0]) && $file->has($names[1]) ? $names[1] : $names[0];
    }

    /**
     * The connection to use in the place of the one that is there; null if that one is
     * another server's.
     */
    private function connection(string $now): ?string
    {
        if (in_array($now, ['reverb', 'pusher'], true)) {
            return $now;
        }
        if (! in_array($now, ['', 'null', 'log'], true) && ! $this->option('force')) {
            return null;
        }
        $hasReverb = method_exists(BroadcastManager::class, 'createReverbDriver')
            && $this->laravel['config']->has('broadcasting.connections.reverb');

        return $hasReverb ? 'reverb' : 'pusher';
    }

    private function fill(EnvironmentFile $file, string $variable, string $connection): void
    {
        $force = (bool) $this->option('force');
        $variables = new Variables($connection);
        $address = $variables->address();
        // Without a host, what stands there of port and scheme is for Pusher's own hosts.
        $elsewhere = $file->value(array_key_first($address)) === '';
        $bundler = is_file($this->laravel->basePath('webpack.mix.js')) ? 'MIX' : 'VITE';

        $this->put($file, [$variable => $connection], $file->value($variable) !== $connection);
        $this->put($file, $variables->credentials(), $force);
        $this->put($file, $address, $force || $elsewhere);
        $this->put($file, $variables->frontEnd($bundler), false);
        if ($this->option('webhooks')) {
            $this->put($file, Variables::webhooks($this->webhookUrl()), $force);
        }
    }

    /**
     * Sets variables that are empty, or all of them, and says which.
     *
     * @param  array<string, string>  $variables
     */
    private function put(EnvironmentFile $file, array $variables, bool $over): void
    {
        foreach ($variables as $name => $value) {
            $kept = $file->value($name) !== '' && ! $over;
            $this->line(($kept ? '  kept     ' : '  written  ') . $name);
            if (! $kept) {
                $file->set($name, $value);
            }
        }
    }

    private function webhookUrl(): ?string
    {
        $config = $this->laravel['config'];
        $path = trim((string) $config['reecho.webhook_path'], '/');

        return $path === '' ? null : rtrim((string) $config['app.url'], '/') . "/$path";
    }

    /**
     * The data folder is made where the server is started, which is here.
     */
    private function ignoreData(EnvironmentFile $file): void
    {
        $ignore = $this->laravel->basePath('.gitignore');
        if ($file->has('REECHO_DATA_DIR') || ! is_file($ignore)) {
            return;
        }
        $text = (string) file_get_contents($ignore);
        if (! preg_match('~^/?reecho-data/?\s*$~m', $text)) {
            file_put_contents($ignore, rtrim($text, "\n") . "\n/reecho-data\n");
            $this->line('  written  /reecho-data to .gitignore');
        }
    }

    private function sayWhatIsLeft(string $connection): void
    {
        $config = $this->laravel['config'];
        if ($this->laravel->configurationIsCached()) {
            $this->warn('The configuration is cached: run php artisan config:cache again.');
        }
        $prefix = strtoupper($connection);
        if (! $config->has("broadcasting.connections.$connection")) {
            $this->warn("config/broadcasting.php has no connection $connection: add it as Laravel's documentation shows.");
        } elseif (! array_key_exists('host', $config->get("broadcasting.connections.$connection.options") ?? [])) {
            $this->warn("config/broadcasting.php does not use {$prefix}_HOST. Add to options of the connection $connection:");
            $this->line("  'host' => env('{$prefix}_HOST'), 'port' => env('{$prefix}_PORT'), 'scheme' => env('{$prefix}_SCHEME'),");
        }
        $isAuth = fn ($route) => ltrim($route->getActionName(), '\\') === BroadcastController::class . '@authenticate';
        if (! collect($this->laravel['router']->getRoutes()->getRoutes())->contains($isAuth)) {
            $this->warn('There is no route /broadcasting/auth for private channels: run php artisan install:broadcasting (Laravel 11 and newer), or enable BroadcastServiceProvider.');
        }
        if ($this->option('webhooks')) {
            $this->line("  webhooks go to {$this->webhookUrl()} (APP_URL)");
        }
        $this->info('Start the server with php artisan reecho:start');
    }
}
