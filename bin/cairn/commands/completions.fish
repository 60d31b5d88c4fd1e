
# Names of artifacts, versions, aliases and drafts.
complete -c cairn -a '(command cairn __complete (commandline -opc)[2..-1] (commandline -ct | string collect --allow-empty) 2>/dev/null)'
