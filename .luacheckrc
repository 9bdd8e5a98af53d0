std = "lua54"
max_line_length = 100
exclude_files = { "build" }
files["spec"] = { std = "lua54+busted", globals = { "arg" } }
files["runtime/meta"] = { ignore = { "211", "212", "241" }, std = "lua54" }
