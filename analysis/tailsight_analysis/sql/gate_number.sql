-- Fragment. Which number does a span carry under the key of the input's length? NaN where none.
arrayMap({{number}}, [if({input_key:String} = '', '', s.attributes[{input_key:String}])])[1]
