<?php

namespace App;

use Closure;
use Illuminate\Support\Facades\Auth;

// Another way to tell who somebody is, for routes of their own.
class ByHeader
{
    public function handle($request, Closure $next)
    {
        $name = $request->header('X-User');
        abort_if($name === null, 401);
        Auth::setUser((new Users())->retrieveById($name));

        return $next($request);
    }
}
