# shellcheck shell=bash
# bash completion for ttallocd, ttalloc and ttalloc-workload. Source it, or copy it to /usr/share/bash-completion/completions/ttallocd.

_ttallocd()
{
	local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}

	case $previous in
	--mount) mapfile -t COMPREPLY < <(compgen -d -- "$word") ;;
	--socket | --compat-socket) mapfile -t COMPREPLY < <(compgen -f -W none -- "$word") ;;
	--log) mapfile -t COMPREPLY < <(compgen -W "error warning info debug" -- "$word") ;;
	--max-buffers | --device) COMPREPLY=() ;;
	*) mapfile -t COMPREPLY < <(compgen -W "--foreground --mount --socket --compat-socket --log --max-buffers
		--device --version --help" -- "$word") ;;
	esac
}

_ttalloc_workload()
{
	local word=${COMP_WORDS[COMP_CWORD]}

	case ${COMP_WORDS[COMP_CWORD - 1]} in
	--socket) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
	--devices | --layers | --steps | --rate | --processes | --seed | --leak | --double-free | --unknown-free | \
		--die-after) COMPREPLY=() ;;
	--scenario) mapfile -t COMPREPLY < <(compgen -W "list program-cache kv-cache grows-per-run grows-per-step double-free
		early-frees view killed exit refs two-processes two-types" -- "$word") ;;
	*) mapfile -t COMPREPLY < <(compgen -W "--devices --layers --steps --rate --processes --seed --leak
		--double-free --unknown-free --die-after --hold --keep --mark --scenario --socket --version --help" -- "$word") ;;
	esac
}

_ttalloc()
{
	local word=${COMP_WORDS[COMP_CWORD]} leak="--mount --format --report --baseline --write-baseline --suppressions --known
		--fail-on-leak --exit-code --help"
	local -A options=(
		[analyze]="--address --device --top --all --json --fail-on-leak --help"
		[run]="$leak --allow-silent --private"
		[leaks]="$leak --no-scan"
		[diff]="--mount --format --help"
	)

	if [ "$COMP_CWORD" -eq 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W "run leaks diff analyze --version --help" -- "$word")
		return
	fi
	case ${COMP_WORDS[COMP_CWORD - 1]} in
	--address | --device | --top | --exit-code) COMPREPLY=() ;;
	--mount) mapfile -t COMPREPLY < <(compgen -d -- "$word") ;;
	--format) mapfile -t COMPREPLY < <(compgen -W "text json junit" -- "$word") ;;
	*) case $word in
	   -*) mapfile -t COMPREPLY < <(compgen -W "${options[${COMP_WORDS[1]}]-}" -- "$word") ;;
	   *) mapfile -t COMPREPLY < <(compgen -c -f -- "$word") ;;
	   esac ;;
	esac
}

complete -F _ttalloc ttalloc
complete -F _ttallocd ttallocd
complete -F _ttalloc_workload ttalloc-workload
