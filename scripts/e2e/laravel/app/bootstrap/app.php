<?php

// An application as composer create-project makes it, without what these tests do not
// touch: in the shape of Laravel 11 and newer where there is that, else in the older one.

use Illuminate\Foundation\Application;

require_once __DIR__ . '/autoload.php';

if (method_exists(Application::class, 'configure')) {
    $app = Application::configure(dirname(__DIR__))
        ->withRouting(web: __DIR__ . '/../routes/web.php')
        ->withBroadcasting(__DIR__ . '/../routes/channels.php', ['middleware' => ['web', 'auth']])
        ->withProviders([App\AppServiceProvider::class], false)
        ->withMiddleware(fn ($middleware) => $middleware->redirectGuestsTo('/login'))
        ->withExceptions()
        ->create();

    // Debian's package leaves the framework's own files of configuration out.
    return $app->dontMergeFrameworkConfiguration();
}

$app = new Application(dirname(__DIR__));
$app->singleton(Illuminate\Contracts\Http\Kernel::class, App\HttpKernel::class);
$app->singleton(Illuminate\Contracts\Console\Kernel::class, Illuminate\Foundation\Console\Kernel::class);
$app->singleton(Illuminate\Contracts\Debug\ExceptionHandler::class, Illuminate\Foundation\Exceptions\Handler::class);

return $app;
