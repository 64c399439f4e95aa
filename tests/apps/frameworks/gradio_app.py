import sys

import gradio


def shout(text, file):
    with open(file) as f:
        words = f.read()
    with open("answer.txt", "w") as f:
        f.write(f"{text} {words}".upper())
    return f"{text} {words}".upper(), "answer.txt"


demo = gradio.Interface(
    shout,
    [gradio.Textbox(label="text"), gradio.File(label="file")],
    [gradio.Textbox(label="loud"), gradio.File(label="answer")],
    flagging_mode="never",
    api_name="shout",
)
demo.launch(server_name="127.0.0.1", server_port=int(sys.argv[1]))
