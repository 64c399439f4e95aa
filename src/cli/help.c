/* --help and the option lists of the manual page, made from the tables. */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"

enum { HELP_COLUMNS = 80, HELP_INDENT = 26, HELP_TEXT_CAP = 1024 };

static const char *help_text(const struct option_row *row, char out[HELP_TEXT_CAP]) {
  bool many = row->many || row->kind == OPTION_LIST;
  (void)snprintf(out, HELP_TEXT_CAP, "%s%s", row->help, many ? " May be given several times." : "");
  return out;
}

/* Words from text, wrapped behind an indent; `column` is where the cursor stands. */
static void put_wrapped(FILE *to, const char *text, size_t indent, size_t column) {
  if (column >= indent) {
    (void)fputc('\n', to);
    column = 0;
  }
  (void)fprintf(to, "%*s", (int)(indent - column), "");
  column = indent;
  while (*text != 0) {
    size_t n = strcspn(text, " ");
    if (column > indent && column + 1 + n > HELP_COLUMNS) {
      (void)fprintf(to, "\n%*s", (int)indent, "");
      column = indent;
    } else if (column > indent) {
      (void)fputc(' ', to);
      column++;
    }
    (void)fwrite(text, 1, n, to);
    column += n;
    text += n + strspn(text + n, " ");
  }
  (void)fputc('\n', to);
}

static void put_indented_lines(FILE *to, const char *lines) {
  while (*lines != 0) {
    size_t n = strcspn(lines, "\n");
    (void)fprintf(to, "  %.*s\n", (int)n, lines);
    lines += n + (lines[n] == '\n');
  }
}

void options_help(const struct command *c, FILE *to) {
  (void)fprintf(to, "adit %s: %s\n\nExamples:\n", c->name, c->purpose);
  put_indented_lines(to, c->examples);
  (void)fprintf(to, "\nUsage: adit %s%s%s%s\n\nOptions:\n", c->name, *c->words != 0 ? " " : "", c->words,
                c->options_n > 0 ? " [OPTIONS]" : "");
  for (size_t i = 0; i < c->options_n; i++) {
    const struct option_row *row = &c->options[i];
    if (row->hidden) continue;
    char text[HELP_TEXT_CAP];
    int column = fprintf(to, row->optional ? "  --%s[=%s%s]" : "  --%s%s%s", row->name,
                         row->value != NULL && !row->optional ? " " : "", row->value != NULL ? row->value : "");
    put_wrapped(to, help_text(row, text), HELP_INDENT, column > 0 ? (size_t)column + 1 : 0);
  }
  (void)fputs("  --help", to);
  put_wrapped(to, "show this", HELP_INDENT, 9);
}

/* mdoc(7): a line that begins with a dot or a quote is a macro, a backslash begins an escape, and a sentence begins a
   line. */
static void put_mdoc_text(FILE *to, const char *text) {
  bool line_begins = true;
  for (; *text != 0; text++) {
    if (line_begins && (*text == '.' || *text == '\'')) (void)fputs("\\&", to);
    line_begins = text[0] == ' ' && line_begins;
    if (*text == '\\') {
      (void)fputs("\\e", to);
    } else if (*text == '-') {
      (void)fputs("\\-", to);
    } else if (text[0] == '.' && text[1] == ' ') {
      (void)fputs(".\n", to);
      text++;
      line_begins = true;
    } else {
      (void)fputc(*text, to);
    }
  }
}

void options_help_mdoc(const struct command *c, FILE *to) {
  (void)fputs(".Bl -tag -width Ds\n", to);
  for (size_t i = 0; i < c->options_n; i++) {
    const struct option_row *row = &c->options[i];
    if (row->hidden) continue;
    (void)fputs(".It Fl Fl ", to);
    put_mdoc_text(to, row->name);
    if (row->value != NULL) {
      (void)fputs(row->optional ? " Ns Op = Ns Ar " : " Ar ", to);
      put_mdoc_text(to, row->value);
    }
    (void)fputc('\n', to);
    char text[HELP_TEXT_CAP];
    put_mdoc_text(to, help_text(row, text));
    (void)fputc('\n', to);
  }
  (void)fputs(".El\n", to);
}
