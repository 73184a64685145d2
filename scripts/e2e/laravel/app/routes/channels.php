<?php

use Illuminate\Auth\Access\AuthorizationException;
use Illuminate\Support\Facades\Broadcast;

Broadcast::channel('chat.{room}', fn ($user, string $room) => $room !== 'secret');
Broadcast::channel('room.{room}', fn ($user, string $room) => ['name' => $user->name]);
Broadcast::channel('vault', fn ($user) => true);
Broadcast::channel('gated', fn ($user) => throw new AuthorizationException());
Broadcast::channel('broken', fn ($user) => throw new RuntimeException('the callback is broken'));
