<?php

namespace App;

use Illuminate\Foundation\Application;
use Illuminate\Support\Facades\Auth;
use Illuminate\Support\Facades\Broadcast;
use Illuminate\Support\Facades\Event;
use Illuminate\Support\ServiceProvider;
use Reecho\Laravel\Events\ClientEvent;
use Reecho\Laravel\Events\WebhookEvent;
use RuntimeException;

class AppServiceProvider extends ServiceProvider
{
    public function boot()
    {
        Auth::provider('names', fn () => new Users());
        if (! method_exists(Application::class, 'configure')) {
            Broadcast::routes(['middleware' => ['web', 'auth']]);
            require base_path('routes/channels.php');
        }
        // A listener writes down what it hears, a line of JSON each. It fails as long as
        // there is a file "broken" with the name of the event, takes its time while there
        // is a file "slow", and ends the process while there is a file "deadly".
        Event::listen(WebhookEvent::class, function (WebhookEvent $event) {
            $class = class_basename($event);
            while (is_file(storage_path('slow'))) {
                usleep(20_000);
                clearstatcache();
            }
            if (is_file(storage_path('deadly'))) {
                file_put_contents(storage_path('deaths'), '+', FILE_APPEND);
                exit;
            }
            if (is_file(storage_path('broken')) && trim(file_get_contents(storage_path('broken'))) === $class) {
                throw new RuntimeException("the listener of $class is broken");
            }
            $fields = ['class' => $class] + get_object_vars($event);
            $fields['time'] = $event->time->getTimestampMs();
            $fields['json'] = $event instanceof ClientEvent ? $event->json() : null;
            // A queued listener gets it this way.
            $fields['again'] = unserialize(serialize($event)) == $event;
            file_put_contents(storage_path('heard'), json_encode($fields) . "\n", FILE_APPEND | LOCK_EX);
        });
    }
}
