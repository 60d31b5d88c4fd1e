
# Names of artifacts, versions, aliases and drafts; else what the function above completes.
_cairn_with_names() {
    local words cur found prefix
    read -ra words <<< "${COMP_LINE:0:COMP_POINT}"
    [[ ${COMP_LINE:0:COMP_POINT} == *[[:space:]] ]] && words+=("")
    cur=${words[${#words[@]} - 1]}
    mapfile -t found < <(command "${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
    if (( ${#found[@]} )); then
        prefix=${cur%"${cur##*:}"}
        [[ $COMP_WORDBREAKS == *:* ]] && found=("${found[@]#"$prefix"}")
        COMPREPLY=("${found[@]}")
        return
    fi
    _cairn "$@"
}
complete -F _cairn_with_names -o bashdefault -o default cairn
