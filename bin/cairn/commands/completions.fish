
# Names of artifacts, versions, aliases and drafts. Where there are some, no files are proposed.
function __cairn_names
    set -l last (commandline -ct)
    test (count $last) -gt 0; or set last ''
    command cairn __complete (commandline -opc)[2..-1] $last 2>/dev/null
end
complete -c cairn -f -n 'set -g __cairn_found (__cairn_names); test (count $__cairn_found) -gt 0' -a '$__cairn_found'
