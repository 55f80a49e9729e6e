/* The rules of VM exits as data: exit_rules*.def. */
#include "vmx/exit_model.h"

const struct exit_rule exit_rules[EXIT_RULES] = {
#define EXIT_RULE(name, id, section, ...) [EXIT_RULE_##name] = { #name, id, section },
#include "vmx/exit_rules.def"
#undef EXIT_RULE
};
