"""What the variables of a run say: which apps there are, and the inputs of each, typed."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load
from ansible.template import trust_as_template

from ..module_utils import described, rules
from ..module_utils.inputs import PREFIX, InputError, Inputs, problem, stop_at, unknown
from ..module_utils.site import Site


class Variables:
    """The variables of a host, as Ansible gives them to an action of the role.

    :param templar: Ansible's, of the action
    :param variables: {name: value}, with a mapping in ``websockets_apps`` (see :func:`described.with_apps`)
    :param given: names of those that the command line sets: as in all of Ansible, they go before everything else
    """

    def __init__(self, templar: Any, variables: Mapping[str, Any], given: Collection[str]) -> None:
        self._templar, self._variables = templar, variables
        self._spec = _load_spec(variables["role_path"])
        self._given = {name for name in given if name in self._spec}

    def check_names(self) -> None:
        """Stop at variables that are no inputs, and at a description of apps that cannot be read as one.

        :raises InputError: if there are any
        """
        stop_at(unknown((name for name in self._variables if name.startswith(PREFIX)), self._spec))
        _stop_at_empty({name: self._variables[name] for name in (f"{PREFIX}app", described.APPS, described.ONLY)})
        stop_at(described.problems(self._variables, self._given, self._spec))

    def apps(self) -> list[str]:
        """Return the names of the apps that the variables describe."""
        return described.described(self._variables) or [str(self._value(f"{PREFIX}app", self._variables))]

    def in_run(self) -> list[str]:
        """Return the names of the apps that a run of all of the role deploys, in their order."""
        only = str(self._value(described.ONLY, self._variables))
        return [only] if only else self.apps()

    def chosen(self, purpose: str) -> str:
        """Return the name of the app that a task is about.

        :param purpose: one of :data:`plan.PURPOSES`; only a deploy needs an app that is described
        :raises InputError: if the variables describe several apps or another one
        """
        there, only = self.apps(), str(self._value(described.ONLY, self._variables))
        app = str(self._variables.get("__websockets_app") or only)
        if purpose == "deploy" and app and app not in there:
            raise InputError(
                problem(described.ONLY, app, f"the variables of this host describe {' and '.join(there)}.")
            )
        if not app and len(there) > 1:
            remedy = f"name one of them (--app NAME, or -e {described.ONLY}=NAME)."
            raise InputError(problem(described.ONLY, "", f"{described.APPS} describes {' and '.join(there)}; {remedy}"))
        return app or there[0]

    def of(self, app: str) -> Inputs:
        """Return the inputs of an app that the variables describe.

        :raises InputError: if one has a wrong type, or cannot be templated
        """
        return self._typed(described.variables_of(app, self._variables, self._given))

    def of_record(self, app: str, record: Mapping[str, Any], mine: bool) -> Inputs | None:
        """Return the inputs of an app that has been deployed with these, None if they make no sense.

        :param mine: whether the variables describe this app
        """
        variables = described.variables_of(app, self._variables, self._given)
        values = {name: _usual(option["default"]) for name, option in self._spec.items()}
        values |= {f"{PREFIX}{name}": value for name, value in record.items()}
        try:
            Site.of(self._typed({**variables, **values, f"{PREFIX}app": app}))
        except (InputError, ValueError, LookupError):  # a person has edited the file, or a disk was full
            return None
        of_this_run = [f"{PREFIX}{name}" for name in rules.OF_A_ROLLBACK]
        values |= {name: variables[name] for name in of_this_run if mine or name in self._given}
        return self._typed({**variables, **values, f"{PREFIX}app": app})

    def _value(self, name: str, variables: Mapping[str, Any]) -> Any:
        try:
            return self._templar.copy_with_new_env(available_variables=variables).template(variables[name])
        except AnsibleError as error:
            raise InputError(f"{name} cannot be templated: {error}") from None

    def _typed(self, variables: Mapping[str, Any]) -> Inputs:
        spec = {name: option for name, option in self._spec.items() if name not in (described.APPS, described.ONLY)}
        values = {name: self._value(name, variables) for name in spec}
        _stop_at_empty(values)
        # A module gets the raw value, so -e name='{...}' would give it a string of JSON instead of a mapping.
        stop_at(
            f"{name} is a string: use a mapping, which on the command line is -e '{{\"{name}\": {{...}}}}'."
            for name, option in spec.items()
            if option["type"] == "dict" and isinstance(values[name], str)
        )
        types = {
            name: {key: option[key] for key in ("type", "elements") if key in option} for name, option in spec.items()
        }
        checked = ArgumentSpecValidator(types).validate(values)
        if checked.error_messages:
            wrong = [
                n for n, v in values.items() if ArgumentSpecValidator({n: types[n]}).validate({n: v}).error_messages
            ]
            stop_at(rules.wrong_type(name, values[name], **types[name]) for name in wrong)
        found = checked.validated_parameters
        stop_at(
            problem(
                name, found[name], f"use {', '.join(filter(None, option['choices'][:-1]))} or {option['choices'][-1]}."
            )
            for name, option in spec.items()
            if "choices" in option and found[name] not in option["choices"]
        )
        return Inputs.of(found)


def _stop_at_empty(values: Mapping[str, Any]) -> None:
    empty = [name for name, value in values.items() if value is None]
    stop_at(problem(name, None, "give it a value, or leave it out for its default.") for name in empty)


def _usual(default: Any) -> Any:
    """Return the value of an input that nobody has set, from the argument specs."""
    return trust_as_template(default) if isinstance(default, str) else default


def _load_spec(role: str) -> dict[str, dict[str, Any]]:
    with open(os.path.join(role, "meta", "argument_specs.yml"), encoding="utf-8") as file:
        options = yaml_load(file.read())["argument_specs"]["deploy"]["options"]
    return {
        name: {key: value for key, value in option.items() if key in ("type", "elements", "choices", "default")}
        for name, option in options.items()
    }
