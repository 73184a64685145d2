<?php
// Reads JSON lines {"text": base64, "env": {…}} from standard input. Each text
// is read as a .env the way Illuminate\Foundation\Bootstrap\LoadEnvironmentVariables
// does; a line of JSON is printed for each: what the repository and env() have
// for every name (base64), or the error.
require_once '/usr/share/php/Illuminate/Support/autoload.php';
require_once '/usr/share/php/Dotenv/autoload.php';

use Dotenv\Dotenv;
use Illuminate\Support\Env;

// The deprecations of an old Laravel on a new PHP are not ours.
error_reporting(E_ALL & ~E_DEPRECATED);
$server = $_SERVER;
$variables = $_ENV;
$directory = sys_get_temp_dir() . '/dotenv-' . getmypid();
mkdir($directory);
while (($line = fgets(STDIN)) !== false) {
    $job = json_decode($line, true, 512, JSON_THROW_ON_ERROR);
    file_put_contents("$directory/.env", base64_decode($job['text']));
    foreach ($job['env'] as $name => $value) {
        putenv("$name=$value");
    }
    Env::enablePutenv(); // makes a new repository
    $answer = ['values' => (object) [], 'laravel' => (object) []];
    // Not the keys of what safeLoad returns: it numbers names like 7 anew.
    preg_match_all('/[a-zA-Z0-9_.]+/', base64_decode($job['text']), $words);
    $names = array_map('strval', array_unique($words[0]));
    try {
        Dotenv::create(Env::getRepository(), $directory, '.env')->safeLoad();
        foreach ($names as $name) {
            $value = Env::getRepository()->get($name);
            if ($value === null || isset($job['env'][$name])) {
                continue;
            }
            $answer['values']->{$name} = base64_encode($value);
            $cast = Env::get($name);
            $answer['laravel']->{$name} = is_string($cast) ? base64_encode($cast) : $cast;
        }
    } catch (Throwable $e) {
        $answer = ['error' => get_class($e)];
    }
    foreach (array_merge($names, array_keys($job['env'])) as $name) {
        putenv($name);
    }
    $_SERVER = $server;
    $_ENV = $variables;
    echo json_encode($answer, JSON_THROW_ON_ERROR), "\n";
}
unlink("$directory/.env");
rmdir($directory);
