<?php

declare(strict_types=1);

namespace Reecho\Laravel\Console;

use Dotenv\Dotenv;
use Illuminate\Console\Command;
use Symfony\Component\Process\ExecutableFinder;
use Throwable;

/**
 * Runs reecho beside the application, in the place of reverb:start.
 */
final class StartCommand extends Command
{
    protected $signature = 'reecho:start
        {settings?* : Arguments of reecho itself, behind a double hyphen}
        {--binary= : The program, if it is not in vendor/bin, the application\'s folder or PATH}
        {--host= : The address to listen on}
        {--port= : The port to listen on}
        {--debug : Log at the level debug}';

    protected $description = 'Start reecho with the variables of this application';

    public function handle(): int
    {
        $binary = $this->binary();
        if ($binary === null) {
            return self::FAILURE;
        }
        $file = $this->laravel->environmentFilePath();
        $arguments = [...(is_file($file) ? ['--env-file', $file] : []), ...$this->settings()];
        chdir($this->laravel->basePath());

        return function_exists('pcntl_exec')
            ? $this->become($binary, $arguments, $this->environment($file))
            : $this->wait($binary, $arguments, $this->environment($file));
    }

    /**
     * The program that was named, or else the first that is found; null if there is none,
     * which was said.
     */
    private function binary(): ?string
    {
        $named = $this->option('binary') ?? $this->laravel['config']['reecho.binary'];
        if ($named !== null && $named !== '') {
            $found = is_file($named) && is_executable($named) ? realpath($named) : (new ExecutableFinder())->find($named);
            if (! $found) {
                $this->error("$named, named by --binary or REECHO_BINARY, is not a program that can be run: is the path right, and is it executable (chmod +x)?");
            }

            return $found ?: null;
        }
        $beside = [$this->laravel->basePath('vendor/bin'), $this->laravel->basePath()];
        foreach ($beside as $folder) {
            if (is_file("$folder/reecho") && is_executable("$folder/reecho")) {
                return "$folder/reecho";
            }
        }
        $found = (new ExecutableFinder())->find('reecho', null, $beside); // with .exe on Windows
        if ($found === null) {
            $this->error('There is no program reecho in ' . implode(', ', $beside) . ' and PATH.');
            $this->line('Build it in a checkout of reecho with "go build -o ' . $this->laravel->basePath('reecho') . ' .", or name it: --binary=FILE, or REECHO_BINARY in .env.');
        }

        return $found;
    }

    /**
     * @return list<string>
     */
    private function settings(): array
    {
        $settings = [];
        if ($this->option('host') !== null || $this->option('port') !== null) {
            $host = $this->option('host') ?? $this->laravel['config']['reecho.host'];
            $port = $this->option('port') ?? $this->laravel['config']['reecho.port'];
            $settings = ['--listen', (str_contains($host, ':') && $host[0] !== '[' ? "[$host]" : $host) . ":$port"];
        }
        if ($this->option('debug')) {
            array_push($settings, '--log-level', 'debug');
        }

        return [...$settings, ...$this->argument('settings')];
    }

    /**
     * The environment as it was before Laravel put the file's variables there: the server
     * reads the file itself, and says of a wrong value in which line it stands.
     *
     * @return array<string, string>
     */
    private function environment(string $file): array
    {
        $environment = getenv();
        try {
            $of = is_file($file) ? Dotenv::parse((string) file_get_contents($file)) : [];
        } catch (Throwable) {
            return $environment; // the server says what is wrong with it
        }

        return array_filter($environment, fn ($value, $name) => ($of[$name] ?? null) !== $value, ARRAY_FILTER_USE_BOTH);
    }

    /**
     * Becomes the server: signals reach it, and whoever waits for this process gets its
     * exit status, with nothing in between. Returns only if that fails.
     *
     * @param  list<string>  $arguments
     * @param  array<string, string>  $environment
     */
    private function become(string $binary, array $arguments, array $environment): int
    {
        @pcntl_exec($binary, $arguments, $environment);
        $this->error("$binary cannot be run: " . pcntl_strerror(pcntl_get_last_error()) . '. Was it built for this machine?');

        return self::FAILURE;
    }

    /**
     * Runs the server where pcntl is missing. A terminal sends its signals to both
     * processes; other signals reach this one alone.
     *
     * @param  list<string>  $arguments
     * @param  array<string, string>  $environment
     */
    private function wait(string $binary, array $arguments, array $environment): int
    {
        $process = @proc_open([$binary, ...$arguments], [STDIN, STDOUT, STDERR], $pipes, null, $environment);
        if ($process === false) {
            $this->error("$binary cannot be run. Was it built for this machine?");

            return self::FAILURE;
        }
        $status = proc_close($process);

        return $status < 0 ? self::FAILURE : $status;
    }
}
