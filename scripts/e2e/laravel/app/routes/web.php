<?php

use App\ByHeader;
use Illuminate\Support\Facades\Auth;
use Illuminate\Support\Facades\Broadcast;
use Illuminate\Support\Facades\Route;

Route::get('/login/{name}', function (string $name) {
    Auth::loginUsingId($name);

    return Auth::id();
});

Route::prefix('stateless')->group(fn () => Broadcast::routes(['middleware' => ByHeader::class]));
