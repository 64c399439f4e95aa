import streamlit

count = streamlit.session_state.setdefault("count", 0)
if streamlit.button("one more"):
    streamlit.session_state["count"] = count = count + 1
streamlit.write(f"pressed {count} times")
file = streamlit.file_uploader("a file")
if file:
    words = file.read().decode()
    streamlit.write(f"it says {words}")
    streamlit.download_button("take it back", words.upper(), "answer.txt")
