---Runs busted inside kiln: `kiln lua spec/support/busted.lua [busted's arguments]`.
package.path = "./?.lua;/usr/share/lua/5.4/?.lua;/usr/share/lua/5.4/?/init.lua;" .. package.path
table.insert(arg, 1, "--helper=spec/support/guard.lua")
table.insert(arg, 1, "--pattern=_spec%.lua$")
_G.arg[0] = "busted"
require "busted.runner" { standalone = false }
